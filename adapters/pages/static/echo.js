/** The echo: what is sent comes back. */

import { attach } from "./panel.js";

attach().open("ws");
