"""An app with every kind of relation. Its names are short: `zoo.cage`, `zoo.animal`."""
