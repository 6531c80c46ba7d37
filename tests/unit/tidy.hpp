// SPDX-License-Identifier: MIT
#pragma once

// Style as code: each rule looks at the text of one file and says what is wrong with it, a line
// each. tidy_test.cpp runs them over the tree, and over texts that break them.

#include <algorithm>
#include <cstddef>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace ublk_test {

using complaints = std::vector<std::string>;

inline constexpr std::size_t columns_max = 100;
inline constexpr std::size_t function_lines_max = 70;
inline constexpr std::size_t header_lines_max = 300;
inline constexpr std::size_t uapi_lines_max = 500;  // the kernel's words, which are many

inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in{text};
    for (std::string line; std::getline(in, line);) {
        lines.push_back(line);
    }
    return lines;
}

inline std::string at(std::size_t index, const std::string& what) {
    return "line " + std::to_string(index + 1) + ": " + what;
}

inline bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// Where the literal or comment that begins at `from` ends; `from` itself where none begins there.
inline std::size_t end_of_quote(const std::string& text, std::size_t from) {
    const std::string_view rest = std::string_view{text}.substr(from);
    const auto after = [&](std::string_view mark, std::size_t skip) {
        const std::size_t found = rest.find(mark, skip);
        return found == rest.npos ? text.size() : from + found + mark.size();
    };
    if (rest.starts_with("//")) {
        return std::min(text.size(), text.find('\n', from));
    }
    if (rest.starts_with("/*")) {
        return after("*/", 2);
    }
    if (rest.starts_with("R\"")) {
        const std::string end = ")" + std::string{rest.substr(2, rest.find('(') - 2)} + "\"";
        return after(end, 2);
    }
    const bool separator = rest.starts_with("'") && from > 0 && is_word(text[from - 1]);
    if (separator || !(rest.starts_with("\"") || rest.starts_with("'"))) {
        return from;
    }
    std::size_t end = from + 1;
    while (end < text.size() && text[end] != text[from] && text[end] != '\n') {
        end += text[end] == '\\' ? 2 : 1;
    }
    return std::min(text.size(), end + 1);
}

/// The same text with comments and what literals hold blanked out; lines stay lines.
inline std::string code_of(const std::string& text) {
    std::string code = text;
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t end = end_of_quote(text, i);
        for (std::size_t j = i; j < end; ++j) {
            code[j] = text[j] == '\n' ? '\n' : ' ';
        }
        i = std::max(end, i + 1);
    }
    return code;
}

inline bool has_word(std::string_view line, std::string_view word) {
    for (std::size_t i = line.find(word); i != line.npos; i = line.find(word, i + 1)) {
        const std::size_t end = i + word.size();
        if ((i == 0 || !is_word(line[i - 1])) && (end == line.size() || !is_word(line[end]))) {
            return true;
        }
    }
    return false;
}

inline complaints lines_with_words(const std::string& text, const std::vector<std::string>& words,
                                   const std::string& reason) {
    complaints found;
    const std::vector<std::string> lines = lines_of(text);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        for (const std::string& word : words) {
            if (has_word(lines[i], word)) {
                found.push_back(at(i, word + ": " + reason));
            }
        }
    }
    return found;
}

inline complaints lines_that_match(const std::string& text, const char* pattern,
                                   const std::string& reason) {
    complaints found;
    const std::regex expression{pattern};
    const std::vector<std::string> lines = lines_of(text);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (std::regex_search(lines[i], expression)) {
            found.push_back(at(i, reason + ": " + lines[i]));
        }
    }
    return found;
}

inline complaints long_lines(const std::string& text) {
    complaints found;
    const std::vector<std::string> lines = lines_of(text);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        // UTF-8: a character has one byte that is no continuation.
        const auto width = static_cast<std::size_t>(std::ranges::count_if(
            lines[i], [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
        if (width > columns_max) {
            found.push_back(at(i, std::to_string(width) + " columns"));
        }
    }
    return found;
}

/// Macro definitions are left out: they have braces, but nothing that reads as a function.
inline std::string without_directives(const std::string& code) {
    std::string kept;
    bool directive = false;
    for (const std::string& line : lines_of(code)) {
        const std::size_t first = line.find_first_not_of(" \t");
        directive = directive || (first != line.npos && line[first] == '#');
        kept += directive ? "" : line;
        kept += '\n';
        directive = directive && line.ends_with('\\');
    }
    return kept;
}

/// Whether what stands between the end of the last statement and a brace begins a function.
inline bool heads_function(const std::string& head) {
    static const std::regex template_head{R"(template\s*<[^{;()]*>)"};
    static const std::regex something_else{
        R"(^\s*(class|struct|union|enum|namespace|inline namespace|concept)\b|namespace[\w\s:]*$)"};
    const std::string plain = std::regex_replace(head, template_head, " ");
    return plain.find('(') != plain.npos && !std::regex_search(plain, something_else);
}

/// Rough: outermost braces with a parenthesis before them, whatever is within.
inline complaints long_functions(const std::string& text) {
    const std::string code = without_directives(code_of(text));
    complaints found;
    std::string head;
    std::size_t line = 0, start = 0;
    int depth = 0, function_depth = -1;
    std::vector<bool> blocks;  // of the open braces, which begin a block: "f() {", but not "x{1}"
    for (std::size_t i = 0; i < code.size(); ++i) {
        const char c = code[i];
        line += c == '\n' ? 1 : 0;
        bool block = false;
        if (c == '{') {
            block = i > 0 && (code[i - 1] == ' ' || code[i - 1] == '\n');
            if (block && function_depth < 0 && heads_function(head)) {
                function_depth = depth;
                start = line;
            }
            blocks.push_back(block);
            ++depth;
        } else if (c == '}' && !blocks.empty()) {
            block = blocks.back();
            blocks.pop_back();
            if (--depth == function_depth) {
                const std::size_t length = line - start + 1;
                if (length > function_lines_max) {
                    found.push_back(
                        at(start, "a function of " + std::to_string(length) + " lines"));
                }
                function_depth = -1;
            }
        }
        if (block || c == ';') {
            head.clear();
        } else {
            head += c;
        }
    }
    return found;
}

inline complaints long_header(const std::string& name, const std::string& text) {
    const std::size_t most = name == "uapi.hpp" ? uapi_lines_max : header_lines_max;
    const std::size_t length = lines_of(text).size();
    if (length <= most) {
        return {};
    }
    return {std::to_string(length) + " lines, " + std::to_string(most) + " allowed"};
}

/// What stands between <> or "" in the include directives, with the quote that it begins with.
inline std::vector<std::string> includes_of(const std::string& text) {
    static const std::regex directive{R"(^\s*#\s*include\s*([<"][^>"]+)[>"])"};
    std::vector<std::string> found;
    for (const std::string& line : lines_of(text)) {
        if (std::smatch match; std::regex_search(line, match, directive)) {
            found.push_back(match[1].str());
        }
    }
    return found;
}

/// Libraries that one header keeps away from all others.
inline complaints foreign_includes(const std::string& name, const std::string& text) {
    complaints found;
    for (const std::string& include : includes_of(text)) {
        const bool allowed =
            (!include.starts_with("<liburing") || name.starts_with("kernel/ring")) &&
            (!include.starts_with("<boost/") || name == "features.hpp") &&
            (include != "<boost/hana.hpp") &&
            (!include.starts_with("<range/v3") || name == "backends/segments.hpp");
        if (!allowed) {
            found.push_back("includes " + include +
                            "> (liburing: only kernel/ring*.hpp; Hana: only " +
                            "features.hpp, by parts; range-v3: only backends/segments.hpp)");
        }
    }
    return found;
}

/// What would put an indirect call into the hot loop, or a vtable into somebody's backend. The
/// simulator is neither.
inline complaints dynamic_dispatch(const std::string& name, const std::string& text) {
    if (name.starts_with("sim/")) {
        return {};
    }
    return lines_with_words(code_of(text), {"virtual", "std::function", "dynamic_cast"},
                            "behaviour is a type here");
}

inline complaints bare_sectors(const std::string& name, const std::string& text) {
    if (name == "units.hpp" || name == "uapi.hpp") {
        return {};  // where it belongs; and the kernel's flags, of which there is a number 9
    }
    return lines_that_match(code_of(text), R"((<<|>>)=?\s*9\b|(^|[^\w.])512[uUlL]*\b|0x200\b)",
                            "sectors belong to units.hpp");
}

inline complaints header_begins_wrong(const std::string& text) {
    const std::vector<std::string> lines = lines_of(text);
    const bool right = lines.size() > 1 && lines[0] == "// SPDX-License-Identifier: MIT" &&
                       lines[1] == "#pragma once";
    return right ? complaints{} : complaints{"does not begin with the SPDX line and #pragma once"};
}

/// In the first line, or in the second after "#!".
inline complaints licence_missing(const std::string& text) {
    const std::vector<std::string> lines = lines_of(text);
    const std::size_t place = !lines.empty() && lines[0].starts_with("#!") ? 1 : 0;
    const bool there =
        lines.size() > place && lines[place].ends_with(" SPDX-License-Identifier: MIT");
    return there ? complaints{} : complaints{"does not begin with the SPDX line"};
}

inline complaints leftovers(const std::string& text) {
    return lines_with_words(text,
                            {"TO"
                             "DO",
                             "FIX"
                             "ME"},
                            "do it, or file it");
}

/// What a docstring says beside the meaning follows one of these words, in this order.
inline complaints docstring_words(const std::string& text) {
    static const std::vector<std::string> words{"Range",  "Returns", "Errors",
                                                "Throws", "Thread",  "Kernel"};
    const std::regex labelled{R"(^\s*/// ([A-Z][a-z]+)( `|: ))"};
    complaints found;
    std::size_t last = 0;
    const std::vector<std::string> lines = lines_of(text);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        std::smatch label;
        if (!std::regex_search(lines[i], label, labelled)) {
            last = lines[i].find("///") == std::string::npos ? 0 : last;
            continue;
        }
        const auto word = std::find(words.begin(), words.end(), label[1].str());
        const auto position = static_cast<std::size_t>(word - words.begin()) + 1;
        if (label[2].str() == ": " && word == words.end()) {
            found.push_back(at(i, label[1].str() + ": no word of include/ublk/README.md"));
        } else if (label[2].str() != ": " && word != words.end()) {
            found.push_back(at(i, "write \"" + label[1].str() + ": \""));
        } else if (word != words.end()) {
            if (position < last) {
                found.push_back(at(i, label[1].str() + " comes before the words above it"));
            }
            last = position;
        }
    }
    return found;
}

/// Directories of the machine that something was written on.
inline complaints local_paths(const std::string& text) {
    return lines_that_match(text, R"((^|[^\w.$}])/(work|home|Users)/)", "a path of one machine");
}

/// Packages come from wherever the machine's own configuration says.
inline complaints network_addresses(const std::string& text) {
    return lines_that_match(text, R"(\b(https?|ftp)://)", "an address in the network");
}

/// What the first fence of a Markdown text holds.
inline std::string first_code_block(const std::string& markdown) {
    std::string block;
    bool inside = false;
    for (const std::string& line : lines_of(markdown)) {
        if (line.starts_with("```")) {
            if (inside) {
                break;
            }
            inside = true;
        } else if (inside) {
            block += line + '\n';
        }
    }
    return block;
}

}  // namespace ublk_test
