// Package config turns the configuration file into a checked Config.
//
// The file is TOML, and strict: a key that is not known is an error, and so is
// a value that could only have been meant otherwise. [Load] reports every
// problem of every file in one go, each with the file and the line of the very
// value that is wrong, so that a configuration is mended in one round. Only a
// file whose TOML is broken stops at its first fault.
//
//	file ── toml ──> values ─┐
//	     └─ locate ─> lines ─┴─> items ── merge of all files ──> sections ──> Config
//
// The TOML library tells the lines of syntax errors only. A locator of our own
// walks the text a second time and notes the line of every key and every
// element of a list; both are joined into items, and the sections read their
// keys from those. A key exists because a section reads it: what no section
// has asked for is unknown.
//
// Authority: this package decides what a configuration means, and nobody else
// looks at the file. What it returns is complete: every default is filled in,
// every path is absolute, every secret is read, every name that one section
// uses is declared by another. The caller owns it; nothing here keeps state.
//
// Not promised: that users, groups, commands and directories of jobs exist.
// They are looked up when a run starts, so that a configuration can be
// validated on another host than the one it is for.
package config
