package config

// Diff says in lines for people what changes from old to new, and which of
// the changes need a restart. No line: nothing changes.
func Diff(old, new *Config) []string { return nil }
