package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"os"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
