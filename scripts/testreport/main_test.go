package main

import (
	"strings"
	"testing"
)

const (
	passes = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n","OutputType":"frame"}
{"Action":"pass","Package":"p"}
`
	skips = `{"Action":"output","Package":"q","Test":"TestB","Output":"    q_test.go:1: needs root\n"}
{"Action":"skip","Package":"q","Test":"TestB"}
{"Action":"output","Package":"q","Output":"ok  \tq\t0.1s\n"}
{"Action":"pass","Package":"q"}
`
	fails = `{"Action":"output","Package":"r","Test":"TestC/x","Output":"    r_test.go:1: 2 < 3\n"}
{"Action":"fail","Package":"r","Test":"TestC/x"}
{"Action":"output","Package":"r","Output":"FAIL\tr\t0.1s\n"}
{"Action":"fail","Package":"r"}
`
	untested = `{"Action":"output","Package":"s","Output":"?   \ts\t[no test files]\n"}
{"Action":"skip","Package":"s"}
`
	unbuilt = `{"ImportPath":"t","Action":"build-output","Output":"t.go:1: undefined: x\n"}
{"ImportPath":"t","Action":"build-fail"}
{"Action":"output","Package":"t","Output":"FAIL\tt [build failed]\n"}
{"Action":"fail","Package":"t"}
`
	dies = `{"Action":"output","Package":"u","Test":"TestD","Output":"panic: at the disco\n"}
{"Action":"fail","Package":"u"}
`
)

func TestReport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in   string
		noskip, ok bool
		says       []string
		hides      string
	}{
		{"pass", passes, true, true, []string{"ok  \tp\t0.1s\n", "ok: 1 passed, 0 failed, 0 skipped, in 1 packages"}, "chatter"},
		{"skip allowed", passes + skips, false, true, []string{"skipped: q TestB\n", "needs root"}, "FAIL"},
		{"skip refused", passes + skips, true, false, []string{"skipped: q TestB\n", "FAIL: 1 passed"}, "\nok:"},
		{"fail", passes + fails, false, false, []string{"2 < 3", "FAIL: 1 passed, 1 failed"}, "\nok:"},
		{"no test files", passes + untested, true, true, []string{"[no test files]"}, "skipped:"},
		{"build", passes + unbuilt, true, false, []string{"undefined: x", "(1 failed)"}, "\nok:"},
		{"panic", passes + dies, true, false, []string{"at the disco"}, "\nok:"},
		{"nothing", untested, true, false, []string{"FAIL: 0 passed"}, "\nok:"},
		{"not json", "go: no such tool\n", true, false, []string{"go: no such tool"}, "\nok:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			ok, err := run(strings.NewReader(c.in), &out, c.noskip)
			if err != nil {
				t.Fatal(err)
			}
			if ok != c.ok {
				t.Errorf("ok = %v, want %v:\n%s", ok, c.ok, &out)
			}
			for _, text := range c.says {
				if !strings.Contains(out.String(), text) {
					t.Errorf("does not say %q:\n%s", text, &out)
				}
			}
			if strings.Contains(out.String(), c.hides) {
				t.Errorf("says %q:\n%s", c.hides, &out)
			}
		})
	}
}
