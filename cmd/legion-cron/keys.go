package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

const (
	// keySize makes the cluster's encryption AES-256.
	keySize = 32
	// maxKeyLine bounds what `keys install` reads, in bytes.
	maxKeyLine = 1 << 10
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "The keys that encrypt the cluster's messages",
		Long: `The keys that encrypt the cluster's messages. To change them without a gap, from
any node, while jobs run:

  legion-cron keys generate | legion-cron keys install
  legion-cron keys use NEW
  legion-cron keys remove OLD

Each step is made on every living member, and written to its keys file.`,
		Args: verbArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysGenerate(), newKeysList(), newKeysInstall(),
		newKeysTurn("use", "Have every member encrypt with a key that all of them have", (*control.Client).UseKey),
		newKeysTurn("remove", "Remove a key that no member encrypts with", (*control.Client).RemoveKey))
	for _, verb := range cmd.Commands() {
		verb.DisableFlagsInUseLine = true
	}
	return cmd
}

func newKeysGenerate() *cobra.Command {
	return &cobra.Command{
		Use:   "generate",
		Short: "Print a new key: one line of a [cluster] keys_file",
		Args:  args(cobra.ExactArgs(0)),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), generateKey())
			return err
		},
	}
}

func generateKey() string {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

func newKeysList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Which member has which key, by the keys' names",
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ring, err := client().Keyring(cmd.Context())
		if err != nil {
			return err
		}
		return showKeyring(cmd, ring, *asJSON)
	}
	return cmd
}

func newKeysInstall() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install [FILE]",
		Short: "Add a key, read from a file or standard input, on every member",
		Args:  args(cobra.MaximumNArgs(1)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := cmd.InOrStdin()
		if len(args) > 0 && args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return &refusal{err.Error(), "install takes a file that holds a key, not the key: others could see that"}
			}
			defer f.Close()
			in = f
		}
		key, err := readKey(in)
		if err != nil {
			return err
		}
		ring, err := client().InstallKey(cmd.Context(), key)
		if err != nil {
			return err
		}
		return showKeyring(cmd, ring, *asJSON)
	}
	return cmd
}

// readKey reads the one key of a text that may have comments.
func readKey(in io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxKeyLine))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			keys = append(keys, line)
		}
	}
	if len(keys) != 1 {
		return "", &refusal{fmt.Sprintf("install one key at a time, got %d", len(keys)), "legion-cron keys generate | legion-cron keys install"}
	}
	return keys[0], nil
}

// newKeysTurn is a verb that names a key.
func newKeysTurn(verb, short string, turn func(*control.Client, context.Context, string, bool) (control.Keyring, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Args:  args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	force := cmd.Flags().Bool("force", false, "even if nodes are away, which can then come back only with a new keys file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ring, err := turn(client(), cmd.Context(), args[0], *force)
		if err != nil {
			return err
		}
		return showKeyring(cmd, ring, *asJSON)
	}
	return cmd
}

func showKeyring(cmd *cobra.Command, ring control.Keyring, asJSON bool) error {
	w := cmd.OutOrStdout()
	if asJSON {
		return printJSON(w, ring)
	}
	t := newTable("KEY", "IN USE ON", "ON", "NOT ON")
	for _, k := range ring.Keys {
		t.row(k.ID, strings.Join(k.Using, " "), strings.Join(k.Nodes, " "), strings.Join(k.Missing, " "))
	}
	if err := t.print(w, "no keys"); err != nil {
		return err
	}
	if len(ring.Away) > 0 {
		fmt.Fprintf(w, "\naway, with the keys of their files: %s\n", printable(strings.Join(ring.Away, " ")))
	}
	return nil
}
