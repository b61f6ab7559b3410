// The page of a server.

import { Http } from "./http.js";
import { Page } from "./chat.js";

window.ponder = new Page(new Http());
window.ponder.opening = window.ponder.begin();
