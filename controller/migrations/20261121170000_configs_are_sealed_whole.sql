-- All nine maps of a config are in sealed: headers of probes and commands of hooks can hold secrets as well as variables.
ALTER TABLE configs DROP COLUMN maps;
