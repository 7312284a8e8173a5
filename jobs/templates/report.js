"use strict";
// A slider uncovers one picture over the other: its value is the share of the first that is seen.
document.addEventListener("input", function (event) {
  const slider = event.target;
  if (slider.matches(".compare input")) {
    slider.parentNode.style.setProperty("--cut", slider.value + "%");
    slider.setAttribute("aria-valuetext", slider.value + " % before");
  }
});
