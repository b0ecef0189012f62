package e2e

import (
	"os"
	"os/exec"
	"testing"
)

// TestSuiteOnEtcd runs the tests of the server itself, which speak HTTP to it, with
// etcd behind it instead of memory. Each test has a prefix of its own.
func TestSuiteOnEtcd(t *testing.T) {
	t.Run("R240 the whole suite", func(t *testing.T) {
		etcd := startEtcd(t, 1)
		suite := exec.CommandContext(t.Context(), "go", "test", "-count=1", ".")
		suite.Dir = ".."
		suite.Env = append(os.Environ(), "GRANTLING_TEST_DB=etcd://"+etcd.hosts(0))
		if output, err := suite.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	})
}
