package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/legion-cron/legion-cron/jobs/runner"
)

func TestMain(m *testing.M) {
	runner.Trampoline()
	testscript.Main(m, map[string]func(){"legion-cron": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv(socketEnv, "none.sock") // relative: the same in every transcript
			return nil
		},
	})
}
