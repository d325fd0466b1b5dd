// flux-push pushes a folder as `flux push artifact` does, by the library that it is made of: the flux command itself does
// not build from its module, which lacks files that it embeds.
//
//	flux-push --path=FOLDER --source=URL --revision=REVISION oci://HOST/REPOSITORY:TAG
//
// prints the address of what it pushed, with its digest. Credentials are those of the Docker configuration.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/fluxcd/pkg/oci"
	"github.com/fluxcd/pkg/sourceignore"
)

func main() {
	path := flag.String("path", "", "the folder")
	var meta oci.Metadata
	flag.StringVar(&meta.Source, "source", "", "where its files come from")
	flag.StringVar(&meta.Revision, "revision", "", "of which revision they are")
	flag.Parse()
	// What the flux command leaves out by default.
	ignored := strings.Split(sourceignore.ExcludeVCS+","+sourceignore.ExcludeExt, ",")

	url, err := oci.ParseArtifactURL(flag.Arg(0))
	if err != nil {
		fail(err)
	}
	client := oci.NewClient(oci.DefaultOptions())
	pushed, err := client.Push(context.Background(), url, *path,
		oci.WithPushMetadata(meta), oci.WithPushIgnorePaths(ignored...))
	if err != nil {
		fail(err)
	}
	fmt.Println(pushed)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
