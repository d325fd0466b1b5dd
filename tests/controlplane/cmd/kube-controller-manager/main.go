package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"os"
)

func main() { os.Exit(cli.Run(app.NewControllerManagerCommand())) }
