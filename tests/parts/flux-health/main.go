// flux-health tells what Flux makes of resources by healthCheckExprs: one JSON object {"expressions", "object"} a line
// comes in, the status goes out, a line each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Expressions kustomize.HealthCheckExpressions `json:"expressions"`
	// Read as Kubernetes reads it, with whole numbers.
	Object unstructured.Unstructured `json:"object"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fail(err)
		}
		evaluator, err := cel.NewStatusEvaluator(&asked.Expressions)
		if err != nil {
			fail(err)
		}
		result, err := evaluator.Evaluate(context.Background(), &asked.Object)
		if err != nil {
			fail(err)
		}
		fmt.Println(result.Status)
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
