package controlplane

import (
	"io"
	"os"

	"invariant.dev/operator/hack/programs"
)

// Program is a program that runs beside the control plane.
type Program = programs.Process

// StartProgram starts the program at path beside the control plane, and does not wait for it to be ready. name tells it
// from the others, and may be used again once it has ended. Its output goes to log. Like the control plane's own
// programs it does not get the terminal's Ctrl-C, and it does not outlive this process, not even a kill -9 of it;
// Stop of the control plane does not end it.
func (c *ControlPlane) StartProgram(name, path string, log io.Writer, args ...string) (*Program, error) {
	return programs.Start(c.dir, name, path, log, args...)
}

// MkdirTemp makes a directory for the files of such programs. It is gone after Stop, or after the end of this process.
func (c *ControlPlane) MkdirTemp(pattern string) (string, error) { return os.MkdirTemp(c.dir, pattern) }

// startBinary starts one of the programs that Binary finds.
func (c *ControlPlane) startBinary(name string, log io.Writer, args ...string) (*programs.Process, error) {
	path, err := Binary(name)
	if err != nil {
		return nil, err
	}
	return programs.Start(c.dir, name, path, log, args...)
}
