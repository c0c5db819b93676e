"""The debugger: a record of what training does, and rules that say what is wrong with it."""
