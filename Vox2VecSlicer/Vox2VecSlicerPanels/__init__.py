"""The sections of the module's panel: each connects widgets of the ``.ui`` file to a session, and decides nothing."""
