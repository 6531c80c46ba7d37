// SPDX-License-Identifier: MIT
// A disk in a file or a block device, as the loop driver has it.
#include "program.hpp"

#include <ublk/backends/file.hpp>

int main(int argc, char** argv) {
    CLI::App app{"Serves a file or a block device as /dev/ublkbN until a signal ends it."};
    program::settings s;
    program::add_options(app, s);
    app.remove_option(app.get_option("--size"));  // the file has one
    std::string path;
    ublk::backends::file_options file_settings;
    app.add_option("path", path, "regular file or block device")->required();
    app.add_flag("--direct", file_settings.direct, "read and write past the page cache (O_DIRECT)");
    app.add_flag("--read-only", file_settings.read_only,
                 "refuse writes; the file need not be writable");
    app.add_flag("!--no-lock", file_settings.lock,
                 "leave it to others that only one server writes the file");
    app.add_option("--block-size", file_settings.logical_block_size,
                   "logical block size in bytes; 0: the least that the file allows")
        ->check(CLI::IsMember({0, 512, 1024, 2048, 4096}))
        ->capture_default_str();
    return program::run(app, argc, argv, [&] {
        program::serve_by_name(ublk::backends::file{path, file_settings}, s);
    });
}
