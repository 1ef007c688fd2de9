// Package cronspec turns schedule texts into Next(t).
package cronspec
