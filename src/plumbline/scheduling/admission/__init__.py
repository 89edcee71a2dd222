"""Admission: which deadlines can be promised on a stream, by tests that are necessary and sufficient.

Import from the modules: `tasks` (what asks), `verdict` (the answer), `promises` (one stream while it runs),
`sets` (a task set at once), `orders`, and below them `demand` (EDF), `response` (fixed order), `backlog`.
The theory is in docs/explanation/admission.md.
"""
