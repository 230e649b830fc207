// What the pages do beyond what a browser does by itself; without it they can be read and used.
import { live } from "./live.js";
import { menus } from "./menus.js";
import { timelines } from "./timeline.js";
import { trees } from "./tree.js";

menus();
timelines();
trees();
live();
