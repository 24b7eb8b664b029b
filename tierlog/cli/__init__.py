"""The command line: ``tierlog NOUN VERB``, tables for people, JSON and YAML for programs."""
