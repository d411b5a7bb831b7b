// The menu is a list of sections, each of which is a list of pages: said so to screen readers.
(() => {
  const mend = () => {
    for (const menu of document.querySelectorAll('[data-testid="stSidebarNavItems"]:not([role])')) menu.setAttribute("role", "presentation");
    for (const item of document.querySelectorAll('[data-testid="stSidebarNavItems"] li')) {
      const list = item.parentElement;
      if (list.tagName !== "UL" && !list.hasAttribute("role")) list.setAttribute("role", "list");
    }
  };
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    setTimeout(() => { due = false; mend(); }, 100);
  }).observe(document, { childList: true, subtree: true });
})();
