// The page of a folder that holds its model: no server is behind it, and after the first visit no network either.

import { Local } from "./local.js";
import { Page } from "./chat.js";

window.ponder = new Page(new Local());
window.ponder.opening = window.ponder.begin();
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("./sw.js").catch(() => {}); // without it the page works while it is connected
}
