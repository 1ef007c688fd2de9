package hooks

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/legion-cron/legion-cron/jobs/runner"
)

func TestMain(m *testing.M) {
	runner.Trampoline()
	goleak.VerifyTestMain(m)
}
