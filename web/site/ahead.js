// ahead.js: starts the JavaScript host's worker and engine while the page's other scripts and the list of models are on
// their way.
import { Model } from "../ruvq.js";
import { chosenHost } from "./settings.js";

if (chosenHost() === "javascript") Model.prepare();
