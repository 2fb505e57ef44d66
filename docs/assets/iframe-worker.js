/* Search runs in a worker, and browsers start no worker for a page opened from disk. There, run its script in a hidden
   frame instead, which answers the same messages. Elsewhere nothing changes. */
(() => {
  if (window.location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      const start = () => {
        this.inside = frame.contentWindow;
        this.inside.postMessage = (data) => setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data })));
        const script = this.inside.document.createElement("script");
        script.src = url;
        script.onload = () => {
          const held = this.waiting;
          this.waiting = null;
          held.forEach((data) => this.postMessage(data));
        };
        script.onerror = () => this.dispatchEvent(new Event("error"));
        this.inside.document.body.append(script);
      };
      const add = () => {
        document.body.append(frame);
        start();
      };
      if (document.body) add();
      else document.addEventListener("DOMContentLoaded", add);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else setTimeout(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {}
  }

  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
})();
