// ahead.js: starts the worker and its engine while the page's other scripts and the list of models are on their way.
import { Model } from "../ruvq.js";

Model.prepare();
