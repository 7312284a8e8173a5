"""The S3 endpoint for tests of commands on remote outputs."""

from tests.support.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]
