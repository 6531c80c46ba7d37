// SPDX-License-Identifier: MIT
// A file or block device at a limited rate.
#include "throttle.hpp"

#include "program.hpp"

#include <ublk/backends/file.hpp>

int main(int argc, char** argv) {
    CLI::App app{"Serves a file or block device at a limited rate, as /dev/ublkbN until a signal "
                 "ends it."};
    program::settings s;
    program::add_options(app, s);
    app.remove_option(app.get_option("--size"));  // that of the file
    std::string path;
    throttle_limits limits;
    app.add_option("path", path, "a regular file or a block device")->required();
    app.add_option("--bytes", limits.bytes, "bytes a second: 100M, ...; 0: any number")
        ->transform(CLI::AsSizeValue{false})
        ->default_str("0");
    app.add_option("--requests", limits.requests, "requests a second; 0: any number")
        ->default_str("0");
    return program::run(app, argc, argv, [&] {
        program::serve_by_name(throttle{ublk::backends::file{path}, limits}, s);
    });
}
