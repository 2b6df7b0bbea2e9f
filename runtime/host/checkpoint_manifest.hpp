// manifest.json: what makes a directory of part files a checkpoint. Its text ends with a hash of
// all that comes before, so that no changed bit goes unnoticed, and what is read is held against
// every limit and against itself, so that a hostile one is an error and nothing else. The same
// words carry what a rank wrote to the coordinator that seals.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "runtime/host/checkpoint.hpp"

namespace regroup {

std::string to_text(const CheckpointManifest& manifest);
// The error says what is wrong with the text, without the file's name.
std::expected<CheckpointManifest, std::string> parse_manifest(std::string_view text);

std::string to_text(const CheckpointPart& part);
std::expected<CheckpointPart, std::string> parse_part(std::string_view text);

// Why no such checkpoint can be: names, sizes, rows or elements that two parts hold. Empty: it can
// be.
std::string problem_with(const CheckpointManifest& manifest);

bool is_run_name(std::string_view run);
bool is_dataset_name(std::string_view name);
bool is_field_name(std::string_view name);
bool is_hash(std::string_view text);

}  // namespace regroup
