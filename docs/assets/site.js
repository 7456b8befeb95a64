// the theme gives these no names of their own, which screen readers need
function name() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-code__nav").forEach((bar, number) => {
    bar.setAttribute("aria-label", `Code ${number + 1}`);
  });
}
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
name();
