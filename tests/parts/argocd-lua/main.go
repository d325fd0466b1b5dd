// argocd-lua runs Argo CD's customizations of a kind as Argo CD does, by its own Lua machine: one request a line comes in,
// one answer a line goes out, both JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/argoproj/argo-cd/v2/util/lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type request struct {
	// health, discovery or action.
	Kind   string         `json:"kind"`
	Script string         `json:"script"`
	Object map[string]any `json:"object"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked request
		answer, err := any(nil), json.Unmarshal(lines.Bytes(), &asked)
		if err == nil {
			answer, err = run(asked)
		}
		if err == nil {
			err = answers.Encode(answer)
		}
		if err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func run(asked request) (any, error) {
	// Without the open libraries, as the API server of Argo CD runs them.
	machine, object := lua.VM{}, &unstructured.Unstructured{Object: asked.Object}
	switch asked.Kind {
	case "health":
		return machine.ExecuteHealthLua(object, asked.Script)
	case "discovery":
		return machine.ExecuteResourceActionDiscovery(object, []string{asked.Script})
	case "action":
		changed, err := machine.ExecuteResourceAction(object, asked.Script)
		if err != nil {
			return nil, err
		}
		var objects []map[string]any
		for _, one := range changed {
			objects = append(objects, one.UnstructuredObj.Object)
		}
		return objects, nil
	default:
		return nil, fmt.Errorf("there is no kind of script %q", asked.Kind)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
