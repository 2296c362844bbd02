"""The test suites of those who adopt the app, with every part of it on."""
