// SPDX-License-Identifier: MIT
// A file or block device whose blocks are compared with what was written to them.
#include "checksum.hpp"

#include "program.hpp"

#include <ublk/backends/file.hpp>

int main(int argc, char** argv) {
    CLI::App app{"Serves a file or block device, and fails reads of what was not written, as "
                 "/dev/ublkbN until a signal ends it."};
    program::settings s;
    program::add_options(app, s);
    app.remove_option(app.get_option("--size"));  // that of the file
    std::string path;
    app.add_option("path", path, "a regular file or a block device")->required();
    return program::run(app, argc, argv,
                        [&] { program::serve_by_name(checksum{ublk::backends::file{path}}, s); });
}
