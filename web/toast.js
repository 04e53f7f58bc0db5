/** Short messages in the corner of the page. */

import { app } from "../../scripts/app.js";

/** @param {"success"|"info"|"warn"|"error"} severity */
export function toast(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 6000 });
}
