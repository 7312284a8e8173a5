"""Creates one run from the template, unless one is still at work. `cronjob.yaml` calls it every night.

    python create_run.py /etc/reelweave/rayjob.yaml

Exit codes: 0 created, or nothing to create; 1 the API server refused; 2 not in a cluster, no such template.
Needs the standard library and PyYAML alone, which the image has; the API server is asked twice.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LABEL = "app.kubernetes.io/name"
_ENDED = ("Complete", "Failed")
_SECONDS = 30.0


class NoClusterError(Exception):
    """Not inside a pod with a service account, or without a template."""


@dataclass(frozen=True)
class Runs:
    """The RayJobs of one namespace. ``authority`` is the file of the API server's certificate authority,
    None for plain HTTP."""

    server: str
    namespace: str
    token: str
    authority: str | None

    @classmethod
    def of_this_pod(cls) -> Runs:
        """Those that the pod's service account may see. Raises NoClusterError."""
        try:
            host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
            token, namespace = ((_ACCOUNT / name).read_text().strip() for name in ("token", "namespace"))
        except (KeyError, OSError) as error:
            raise NoClusterError(
                f"this is no pod with a service account ({error}); from outside a cluster, start a run with "
                "`kubectl create -f infra/kuberay/base/rayjob.yaml`"
            ) from None
        return cls(f"https://{host}:{port}", namespace, token, str(_ACCOUNT / "ca.crt"))

    def at_work(self, name: str) -> list[str]:
        """Names of the runs labelled ``name`` that have not ended."""
        found = self._ask("GET", "?" + urllib.parse.urlencode({"labelSelector": f"{_LABEL}={name}"}))
        return [
            run["metadata"]["name"]
            for run in found["items"]
            if run.get("status", {}).get("jobDeploymentStatus") not in _ENDED
        ]

    def create(self, run: dict[str, Any]) -> str:
        """Creates a RayJob and returns its name."""
        return str(self._ask("POST", "", run)["metadata"]["name"])

    def _ask(self, method: str, query: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.server}/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs{query}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        trust = ssl.create_default_context(cafile=self.authority) if self.authority else None
        with urllib.request.urlopen(request, timeout=_SECONDS, context=trust) as answer:
            return dict(json.load(answer))


def read_template(path: str) -> dict[str, Any]:
    """The template as a run that gets a name of its own. Raises NoClusterError when there is none."""
    try:
        run = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        name = run["metadata"].pop("name")
        _ = run["metadata"]["labels"][_LABEL]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise NoClusterError(
            f"{path}: no template of a run ({why}); apply cronjob.yaml's folder with `kubectl apply -k`"
        ) from None
    run["metadata"]["generateName"] = f"{name}-"
    return dict(run)


def start(runs: Runs, run: dict[str, Any]) -> str:
    """Create ``run`` unless another of its name is at work; what was done, as a sentence."""
    busy = runs.at_work(run["metadata"]["labels"][_LABEL])
    if busy:
        return f"{', '.join(busy)} is still at work; nothing was created"
    return f"created {runs.create(run)}"


def main(path: str) -> int:
    """Exit code of the program."""
    try:
        print(start(Runs.of_this_pod(), read_template(path)))
    except NoClusterError as error:
        print(error, file=sys.stderr)
        return 2
    except urllib.error.HTTPError as error:
        print(
            f"{error.url}: refused with {error.code}: {error.read().decode(errors='replace')}",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"the API server cannot be reached: {error}; the next schedule tries again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["/etc/reelweave/rayjob.yaml"]))
