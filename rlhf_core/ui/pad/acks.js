// Hands the server's word on what was stored to the pad, which may be drawn before or after this.
export default function ({ data }) {
  if (!data) return;
  window.__rlhfAcks = data;
  document.dispatchEvent(new CustomEvent("rlhf-acks"));
}
