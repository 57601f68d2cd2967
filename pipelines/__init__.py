"""How the rules connect to the world: sources, sinks, stores, options and the commands."""
