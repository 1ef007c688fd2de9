package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestSilentOnce: a verb that asks many times says once who does not answer.
func TestSilentOnce(t *testing.T) {
	t.Parallel()
	var errs strings.Builder
	cmd := &cobra.Command{}
	cmd.SetErr(&errs)
	client := asks(cmd)
	for _, names := range []string{"n2", "n2", "n2, n3", "n2, n3"} {
		client().Silent(names)
	}
	want := "legion-cron: no answer from n2: what is known there alone is missing\n" +
		"legion-cron: no answer from n2, n3: what is known there alone is missing\n"
	if errs.String() != want {
		t.Errorf("got\n%s", errs.String())
	}
}
