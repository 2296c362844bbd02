"""Where operations are carried out: ``base`` says how to be asked, the rest answer."""
