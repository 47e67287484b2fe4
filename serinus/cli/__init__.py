"""The command line: parse, call, show. Every command has --json and a stable exit code."""
