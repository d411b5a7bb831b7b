// Hands the server's word on what was stored to the pad, which may be drawn before or after this. Another one of it, that is no
// part of the pad's own piece of the page, lets the pad ask for the whole page: a server that was begun anew knows no pieces.
export default function ({ data, setStateValue }) {
  if (!data) return;
  if (data.wake) { window.__rlhfWake = () => setStateValue("wake", Date.now()); return; }
  window.__rlhfAcks = data;
  document.dispatchEvent(new CustomEvent("rlhf-acks"));
}
