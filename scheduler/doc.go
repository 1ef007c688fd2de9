// Package scheduler says which slots are due.
package scheduler
