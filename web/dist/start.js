// SPDX-License-Identifier: MIT
// Before the first paint: the look that the user has chosen, and whether Draw is the screen to come. The page's own
// script is too large to be waited for; this one is fetched beside the style sheet.
(() => {
    const kept = (key) => {
        try {
            return JSON.parse(localStorage.getItem(`limn.${key}`));
        } catch {
            return null; // no storage, or not ours
        }
    };
    const page = document.documentElement.dataset;
    const theme = kept('theme');
    if (['light', 'dark', 'contrast'].includes(theme)) page.theme = theme;
    if (/^#?(\/(draw.*)?)?$/.test(location.hash)) page.first = kept('formOpen') === false ? 'plain' : 'formed';
})();
