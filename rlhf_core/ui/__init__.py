"""UI room: widgets, charts, cached resources, session-state keys. The only room beside ``app.py`` and ``pages/`` that
imports Streamlit."""
