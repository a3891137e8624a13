"""Before the first step: distillation acts, or the run does not begin."""
