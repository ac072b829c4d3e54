// theme.js: light, dark or as the system has it. A plain script in the page's head, so that the first thing
// painted has the right colours.
const THEMES = ["system", "light", "dark"];
const THEME_KEY = "ruvq-theme";

function storedTheme() {
  try {
    const name = localStorage.getItem(THEME_KEY);
    return THEMES.includes(name) ? name : "system";
  } catch {
    return "system"; // storage is off: the choice lasts as long as the page
  }
}

function applyTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  if (button) button.textContent = `Theme: ${name}`;
}

let theme = storedTheme();
applyTheme(theme);
document.addEventListener("DOMContentLoaded", () => {
  applyTheme(theme);
  document.getElementById("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    applyTheme(theme);
    try {
      localStorage.setItem(THEME_KEY, theme);
    } catch {
      // as above
    }
  });
});
