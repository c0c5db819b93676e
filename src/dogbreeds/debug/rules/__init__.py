"""The rules of SageMaker Debugger, and some of our own, over the record of a run.

Names, parameters, defaults and definitions of the former are those of AWS's developer guide, pages
`debugger-built-in-rules` and `debugger-built-in-profiler-rules`.
"""
