"""The doctor: watches a run, says in words what is wrong with it, with evidence and a fix.

A rule reads what was measured (`Evidence`) and yields `Finding`s; it changes nothing. What is measured is said in
`look`, the rules are in `before` (what can be said without training), `signals` (gradients and activations), `rates`
(the size of the steps) and `outcome` (what came of it). A value that is not finite is traced by `replay`.
"""
