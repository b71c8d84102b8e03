package status

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestTheManifestRestartsNothingInAnOutage wants what makes a kubelet restart the container to ask for nothing that Postgres
// or Redis has a part in.
func TestTheManifestRestartsNothingInAnOutage(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join("..", "..", "deploy", "kubernetes", "pgevict.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type probe struct {
		HTTPGet struct{ Path string } `yaml:"httpGet"`
	}
	probes := 0
	for documents := yaml.NewDecoder(file); ; {
		var manifest struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							StartupProbe  *probe `yaml:"startupProbe"`
							LivenessProbe *probe `yaml:"livenessProbe"`
						}
					}
				}
			}
		}
		if err := documents.Decode(&manifest); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, c := range manifest.Spec.Template.Spec.Containers {
			for _, p := range []*probe{c.StartupProbe, c.LivenessProbe} {
				if p == nil {
					continue
				}
				probes++
				if p.HTTPGet.Path != "/livez" {
					t.Errorf("a probe that restarts asks for %q", p.HTTPGet.Path)
				}
			}
		}
	}
	if probes == 0 {
		t.Error("no probe that restarts it when it hangs")
	}
}
