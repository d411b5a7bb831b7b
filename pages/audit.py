"""A report on the quality of a snapshot's feedback, to act on or to hand to somebody."""

import streamlit as st

from rlhf_core.services import auditing
from rlhf_core.ui import keys, resources
from rlhf_core.ui.beginning import snapshot_of_address
from rlhf_core.ui.texts import ago, markdown_of, plural

LOOKS: dict[auditing.Severity, tuple[str, str]] = {
    "act": (":material/error:", "red"), "look": (":material/visibility:", "orange"), "unknown": (":material/help:", "gray"),
    "fine": (":material/check_circle:", "green"),
}  # fmt: skip
PAGES: dict[auditing.Place, tuple[str, str]] = {
    "queues": ("Queues", "queue"), "disputes": ("Disputes", "gavel"), "models": ("Models", "verified")
}  # fmt: skip
workbench = resources.workbench()
st.title("Audit")
snapshot = snapshot_of_address(workbench, "An audit looks at a snapshot")
report = resources.audit(snapshot.id)
counts = {severity: sum(one.severity == severity for one in report.findings) for severity in LOOKS}
st.markdown(
    f"Snapshot **{snapshot.id}**, taken {ago(snapshot.created_at)}: {plural(report.ratings, 'rating')} by "
    f"{plural(report.raters, 'rater')}, {plural(report.chats, 'chat')}. "
    + " ".join(f":{LOOKS[one][1]}-badge[{counts[one]} {auditing.MEANING[one]}]" for one in LOOKS if counts[one])
)
st.download_button(
    "Download the report", report.markdown(), f"audit-{snapshot.id}.md", "text/markdown", icon=":material/download:"
)
for one in report.findings:
    icon, colour = LOOKS[one.severity]
    with st.container(border=True):
        st.markdown(f"{icon} :{colour}[**{one.topic}**] · {markdown_of(one.found)}")
        if one.todo != "Nothing.":
            st.markdown(f":material/arrow_forward: {markdown_of(one.todo)}")
            if one.follow == "queues" and not workbench.may("queues"):
                st.caption("Engineers and administrators make queues: ask one of them.")
            elif one.follow is not None:
                label, icon = PAGES[one.follow]
                st.page_link(f"{one.follow}.py", label=label, icon=f":material/{icon}:")
        if one.question:
            topic = resources.question_topic(one.question)
            st.page_link(
                "explore.py", label="The numbers", icon=":material/insights:",
                query_params={keys.URL_SNAPSHOT: snapshot.id, keys.URL_TOPIC: topic, keys.URL_OPEN: one.question},
            )  # fmt: skip
