#include "runtime/host/checkpoint_manifest.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <type_traits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/host/checkpoint_field.hpp"
#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/checkpoint_xdmf.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using hdf5::ElementType;
using nlohmann::json;
using nlohmann::ordered_json;
using Limits = CheckpointLimits;

constexpr std::string_view kFormat = "regroup-checkpoint";
constexpr std::uint64_t kFormatVersion = 1;
constexpr std::size_t kHashDigits = 32;
// The text's end: hash of all before it, then this.
constexpr std::string_view kBeforeHash = ",\n\"xxh3_128\": \"";
constexpr std::string_view kAfterHash = "\"\n}\n";
constexpr int kNestingMax = 16;
constexpr std::size_t kNamePartsMax = 8;

constexpr std::array<std::string_view, 4> kTypeNames = {"uint8", "int64", "uint64", "float64"};
constexpr std::array<std::string_view, 2> kCentreNames = {"cells", "nodes"};
// By the alternative of a ResultValue.
constexpr std::array<std::string_view, 4> kValueTypeNames = {"text", "int64", "uint64", "float64"};

// ---- Writing ----

// A text that JSON can hold as it is, else an object with its bytes.
ordered_json text_to_json(const std::string& text) {
  const auto replace = json::error_handler_t::replace;
  const auto back = json::parse(json(text).dump(-1, ' ', false, replace), nullptr, false);
  if (back.is_string() && back.get_ref<const std::string&>() == text) return text;
  std::string digits;
  for (const char c : text) digits += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return {{"hex", digits}};
}

ordered_json texts_to_json(const NamedTexts& texts) {
  auto list = ordered_json::array();
  for (const auto& [name, value] : texts)
    list.push_back({{"name", text_to_json(name)}, {"value", text_to_json(value)}});
  return list;
}

// Numbers as texts: JSON's own lose 64-bit integers in many readers, and know no infinity.
ordered_json value_to_json(const NamedValue& named) {
  ordered_json object = {{"name", named.name}, {"type", kValueTypeNames[named.value.index()]}};
  std::visit(
      [&](const auto& value) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, std::string>)
          object["value"] = text_to_json(value);
        else
          object["value"] = fmt::format("{}", value);
      },
      named.value);
  return object;
}

ordered_json to_json(const FieldBlock& block) {
  const GridField& field = block.field;
  return {{"name", field.name},
          {"units", field.units},
          {"centred", kCentreNames[static_cast<std::size_t>(field.centre)]},
          {"shape", field.shape},
          {"spacing", field.spacing},
          {"origin", field.origin},
          {"start", block.start},
          {"extent", block.extent}};
}

ordered_json to_json(const ViewFile& view, std::string_view name) {
  return {{"file", name}, {"bytes", view.bytes}, {"xxh3_128", view.hash}};
}

ordered_json to_json(const StoredPiece& piece) {
  ordered_json object;
  object["dataset"] = piece.dataset;
  if (piece.path != piece.dataset) object["path"] = piece.path;
  object["type"] = kTypeNames[static_cast<std::size_t>(piece.type)];
  object["first_row"] = piece.first_row;
  object["rows"] = piece.rows;
  if (piece.block) object["field"] = to_json(*piece.block);
  if (piece.chunk_rows != 0) object["chunk_rows"] = piece.chunk_rows;
  auto storage = ordered_json::array();
  for (const auto& extent : piece.storage) storage.push_back({extent.offset, extent.bytes});
  object["storage"] = std::move(storage);
  object["xxh3_128"] = piece.hash;
  if (piece.chunk_rows != 0) object["stored_xxh3_128"] = piece.stored_hash;
  object["current"] = piece.current;
  return object;
}

ordered_json to_json(const PartFile& part) {
  ordered_json object;
  object["file"] = part.file;
  object["rank"] = part.rank.value;
  object["checkpoint"] = part.written_in.value;
  object["epoch"] = part.epoch.value;
  object["bytes"] = part.bytes;
  object["structure_xxh3_128"] = part.structure_hash;
  auto attributes = ordered_json::array();
  for (const auto& attribute : part.attributes) attributes.push_back(value_to_json(attribute));
  object["attributes"] = std::move(attributes);
  auto pieces = ordered_json::array();
  for (const auto& piece : part.pieces) pieces.push_back(to_json(piece));
  object["pieces"] = std::move(pieces);
  return object;
}

// ---- Reading ----

// Whether the brackets nest deeper than ours do, so that a parser would need memory without end.
bool nests_too_deep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') ++i;
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > kNestingMax) return true;
  }
  return false;
}

// Reads the members of objects. The first problem is kept, and nothing is read after it.
class Reading {
 public:
  bool failed() const { return !problem_.empty(); }
  const std::string& problem() const { return problem_; }
  void fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }

  const json* member(const json& object, const char* name) {
    if (failed()) return nullptr;
    if (!object.is_object()) return fail("something that should be an object is none"), nullptr;
    const auto found = object.find(name);
    if (found != object.end()) return &*found;
    return fail(fmt::format("member '{}' is missing", name)), nullptr;
  }
  // An empty one when there is a problem.
  const json& list(const json& object, const char* name, std::size_t size_max) {
    static const json empty = json::array();
    const json* found = member(object, name);
    if (found == nullptr) return empty;
    if (found->is_array() && found->size() <= size_max) return *found;
    return fail(fmt::format("member '{}' is no list of at most {}", name, size_max)), empty;
  }
  std::uint64_t count(const json& object, const char* name, std::uint64_t max) {
    const json* found = member(object, name);
    if (found == nullptr) return 0;
    if (found->is_number_unsigned() && found->get<std::uint64_t>() <= max)
      return found->get<std::uint64_t>();
    return fail(fmt::format("member '{}' is no count of at most {}", name, max)), 0;
  }
  std::uint64_t optional_count(const json& object, const char* name, std::uint64_t max) {
    return object.is_object() && object.contains(name) ? count(object, name, max) : 0;
  }
  double number(const json& object, const char* name) {
    const json* found = member(object, name);
    if (found == nullptr) return 0;
    if (found->is_number()) return found->get<double>();
    return fail(fmt::format("member '{}' is no number", name)), 0;
  }
  bool boolean(const json& object, const char* name) {
    const json* found = member(object, name);
    if (found == nullptr) return false;
    if (found->is_boolean()) return found->get<bool>();
    return fail(fmt::format("member '{}' is neither true nor false", name)), false;
  }
  std::string plain_text(const json& object, const char* name) {
    const json* found = member(object, name);
    if (found == nullptr) return {};
    if (found->is_string()) return found->get<std::string>();
    return fail(fmt::format("member '{}' is no text", name)), std::string();
  }
  std::string hash(const json& object, const char* name) {
    std::string text = plain_text(object, name);
    if (!failed() && !is_hash(text)) fail(fmt::format("member '{}' is no hash", name));
    return text;
  }
  std::string text(const json& object, const char* name) {
    const json* found = member(object, name);
    if (found == nullptr || !found->is_object()) return plain_text(object, name);
    const std::string digits = plain_text(*found, "hex");
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
      unsigned char byte = 0;
      const char* const end = digits.data() + i + 2;
      const auto parsed = std::from_chars(digits.data() + i, end, byte, 16);
      if (parsed.ec != std::errc() || parsed.ptr != end) break;
      bytes.push_back(static_cast<char>(byte));
    }
    if (!failed() && 2 * bytes.size() != digits.size())
      fail(fmt::format("member '{}' is no text", name));
    return bytes;
  }

 private:
  std::string problem_;
};

template <class Names>
std::size_t index_of(const Names& names, std::string_view name, Reading& reading) {
  const auto found = std::ranges::find(names, name);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  reading.fail(fmt::format("a type is none of {}", fmt::join(names, ", ")));
  return 0;
}

NamedTexts read_texts(const json& object, const char* name, Reading& reading) {
  NamedTexts texts;
  for (const auto& text : reading.list(object, name, Limits::named_values_max))
    texts.emplace_back(reading.text(text, "name"), reading.text(text, "value"));
  return texts;
}

template <class T>
T read_number(const std::string& text, Reading& reading) {
  T number{};
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) reading.fail("an attribute is no number");
  return number;
}

NamedValue read_value(const json& object, Reading& reading) {
  NamedValue named{reading.plain_text(object, "name"), {}};
  const auto type = index_of(kValueTypeNames, reading.plain_text(object, "type"), reading);
  const std::string value = reading.text(object, "value");
  if (reading.failed()) return named;
  if (type == 0) named.value = value;
  if (type == 1) named.value = read_number<std::int64_t>(value, reading);
  if (type == 2) named.value = read_number<std::uint64_t>(value, reading);
  if (type == 3) named.value = read_number<double>(value, reading);
  return named;
}

std::vector<std::uint64_t> read_counts(const json& object, const char* name, Reading& reading) {
  std::vector<std::uint64_t> counts;
  for (const auto& count : reading.list(object, name, Limits::dimensions_max)) {
    const bool valid = count.is_number_unsigned() && count.get<std::uint64_t>() <= Limits::rows_max;
    if (!valid) reading.fail(fmt::format("member '{}' has something that is no count", name));
    counts.push_back(valid ? count.get<std::uint64_t>() : 0);
  }
  return counts;
}

std::vector<double> read_numbers(const json& object, const char* name, Reading& reading) {
  std::vector<double> numbers;
  for (const auto& number : reading.list(object, name, Limits::dimensions_max)) {
    if (!number.is_number())
      reading.fail(fmt::format("member '{}' has something that is no number", name));
    numbers.push_back(number.is_number() ? number.get<double>() : 0);
  }
  return numbers;
}

FieldBlock read_block(const json& object, Reading& reading) {
  FieldBlock block;
  block.field.name = reading.plain_text(object, "name");
  block.field.units = reading.plain_text(object, "units");
  block.field.centre = static_cast<FieldCentre>(
      index_of(kCentreNames, reading.plain_text(object, "centred"), reading));
  block.field.shape = read_counts(object, "shape", reading);
  block.field.spacing = read_numbers(object, "spacing", reading);
  block.field.origin = read_numbers(object, "origin", reading);
  block.start = read_counts(object, "start", reading);
  block.extent = read_counts(object, "extent", reading);
  return block;
}

hdf5::Extent read_extent(const json& pair, Reading& reading) {
  const bool valid = pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() &&
                     pair[1].is_number_unsigned();
  if (valid) return {pair[0].get<std::uint64_t>(), pair[1].get<std::uint64_t>()};
  reading.fail("a storage is no offset and bytes");
  return {};
}

StoredPiece read_piece(const json& object, Reading& reading) {
  StoredPiece piece;
  piece.dataset = reading.plain_text(object, "dataset");
  piece.path = object.is_object() && object.contains("path") ? reading.plain_text(object, "path")
                                                             : piece.dataset;
  piece.type =
      static_cast<ElementType>(index_of(kTypeNames, reading.plain_text(object, "type"), reading));
  piece.first_row = reading.count(object, "first_row", Limits::rows_max);
  piece.rows = reading.count(object, "rows", Limits::rows_max);
  piece.chunk_rows = reading.optional_count(object, "chunk_rows", Limits::chunk_bytes_max);
  for (const auto& extent : reading.list(object, "storage", Limits::chunks_max))
    piece.storage.push_back(read_extent(extent, reading));
  piece.hash = reading.hash(object, "xxh3_128");
  if (piece.chunk_rows != 0) piece.stored_hash = reading.hash(object, "stored_xxh3_128");
  piece.current = reading.boolean(object, "current");
  if (object.is_object() && object.contains("field"))
    piece.block = read_block(object["field"], reading);
  return piece;
}

PartFile read_part_file(const json& object, Reading& reading) {
  PartFile part;
  part.file = reading.plain_text(object, "file");
  part.rank.value = static_cast<std::uint32_t>(reading.count(object, "rank", UINT32_MAX));
  part.written_in.value = reading.count(object, "checkpoint", UINT64_MAX);
  part.epoch.value = reading.count(object, "epoch", UINT64_MAX);
  part.bytes = reading.count(object, "bytes", Limits::file_bytes_max);
  part.structure_hash = reading.hash(object, "structure_xxh3_128");
  for (const auto& value : reading.list(object, "attributes", Limits::named_values_max))
    part.attributes.push_back(read_value(value, reading));
  for (const auto& piece : reading.list(object, "pieces", Limits::pieces_max)) {
    if (reading.failed()) break;
    part.pieces.push_back(read_piece(piece, reading));
  }
  return part;
}

std::vector<PartFile> read_files(const json& object, Reading& reading) {
  std::vector<PartFile> files;
  for (const auto& file : reading.list(object, "files", Limits::files_max)) {
    if (reading.failed()) break;
    files.push_back(read_part_file(file, reading));
  }
  return files;
}

ViewFile read_view(const json& object, Reading& reading) {
  ViewFile view;
  view.bytes = reading.count(object, "bytes", Limits::file_bytes_max);
  view.hash = reading.hash(object, "xxh3_128");
  return view;
}

CheckpointManifest read_manifest(const json& object, Reading& reading) {
  CheckpointManifest manifest;
  manifest.run = reading.plain_text(object, "run");
  manifest.checkpoint.value = reading.count(object, "checkpoint", UINT64_MAX);
  manifest.epoch.value = reading.count(object, "epoch", UINT64_MAX);
  CheckpointFacts& facts = manifest.facts;
  facts.job = reading.text(object, "job");
  facts.parameters = read_texts(object, "parameters", reading);
  facts.seed = reading.count(object, "seed", UINT64_MAX);
  facts.software = read_texts(object, "software", reading);
  facts.ranks = reading.count(object, "ranks", UINT64_MAX);
  facts.lamport = reading.count(object, "lamport", UINT64_MAX);
  facts.utc = reading.text(object, "utc");
  facts.cost_seconds = reading.number(object, "cost_seconds");
  if (const json* view = reading.member(object, "view")) manifest.view = read_view(*view, reading);
  if (object.contains("xdmf")) manifest.xdmf = read_view(object["xdmf"], reading);
  manifest.files = read_files(object, reading);
  return manifest;
}

// What the text holds apart from its hash, or why it holds nothing.
std::expected<json, std::string> open_text(std::string_view text) {
  const std::size_t tail = kHashDigits + kAfterHash.size();
  if (text.size() < tail || !text.ends_with(kAfterHash))
    return std::unexpected("it is cut short or damaged: it does not end with a hash");
  const auto content = text.substr(0, text.size() - tail);
  if (content_hash(content) != text.substr(content.size(), kHashDigits))
    return std::unexpected("it is damaged: its hash is not that of its text");
  if (nests_too_deep(text)) return std::unexpected("it is no manifest: it nests too deep");
  json object = json::parse(text, nullptr, false);
  if (object.is_discarded() || !object.is_object())
    return std::unexpected("it is no manifest: it is not a JSON object");
  return object;
}

// ---- What cannot be ----

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_simple_name(std::string_view name) {
  return !name.empty() && name.size() <= ResultLimits::name_bytes_max && is_alphanumeric(name[0]) &&
         std::ranges::all_of(
             name, [](char c) { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
}

std::string storage_problem(const StoredPiece& piece, std::uint64_t file_bytes) {
  const std::uint64_t element_bytes = hdf5::element_bytes(piece.type);
  const auto outside = [&](const hdf5::Extent& extent) {
    return extent.bytes == 0 || extent.offset < checkpoint_files::kUserBlockBytes ||
           extent.offset > file_bytes || extent.bytes > file_bytes - extent.offset;
  };
  if (std::ranges::any_of(piece.storage, outside)) return "lies outside its file";
  if (piece.chunk_rows == 0) {
    const std::uint64_t stored = piece.storage.empty() ? 0 : piece.storage.front().bytes;
    const bool fits =
        piece.storage.size() == (piece.rows == 0 ? 0u : 1u) && stored == piece.rows * element_bytes;
    return fits ? "" : "has not the bytes that its rows need";
  }
  const std::uint64_t chunk_bytes = piece.chunk_rows * element_bytes;
  if (chunk_bytes > Limits::chunk_bytes_max || piece.rows == 0) return "has no valid chunks";
  const bool fits =
      piece.storage.size() == (piece.rows - 1) / piece.chunk_rows + 1 &&
      std::ranges::all_of(piece.storage, [&](const auto& e) { return e.bytes <= chunk_bytes; });
  return fits ? "" : "has not the chunks that its rows need";
}

std::string piece_problem(const StoredPiece& piece, std::uint64_t file_bytes) {
  if (!is_dataset_name(piece.dataset)) return "has no valid name";
  if (piece.path != piece.dataset &&
      piece.path != fmt::format("{}@{}", piece.dataset, piece.first_row))
    return "has no valid path";
  if (piece.first_row > Limits::rows_max || piece.rows > Limits::rows_max - piece.first_row)
    return "has too many rows";
  if (piece.block)
    if (auto problem = checkpoint_fields::block_problem(*piece.block, piece.rows); !problem.empty())
      return problem;
  return storage_problem(piece, file_bytes);
}

std::string overlap_problem(const PartFile& part) {
  std::vector<hdf5::Extent> storage;
  for (const auto& piece : part.pieces)
    storage.insert(storage.end(), piece.storage.begin(), piece.storage.end());
  std::ranges::sort(storage, {}, &hdf5::Extent::offset);
  for (std::size_t i = 1; i < storage.size(); ++i)
    if (storage[i].offset < storage[i - 1].end())
      return fmt::format("{}: two pieces lie in the same bytes", part.file);
  return {};
}

std::string file_problem(const PartFile& part, CheckpointNumber checkpoint) {
  if (part.written_in.value == 0 || part.written_in > checkpoint ||
      part.file != checkpoint_files::part_name(part.rank, part.written_in, checkpoint))
    return fmt::format("part of rank {} has no valid file name", part.rank.value);
  if (part.bytes < checkpoint_files::kUserBlockBytes)
    return fmt::format("{}: too short for a part", part.file);
  for (const auto& piece : part.pieces)
    if (const auto problem = piece_problem(piece, part.bytes); !problem.empty())
      return fmt::format("{}: piece of '{}' at row {} {}", part.file, piece.dataset,
                         piece.first_row, problem);
  return overlap_problem(part);
}

struct HeldRows {
  const PartFile* part;
  const StoredPiece* piece;
};

// By dataset, the pieces that count.
using HeldDatasets = std::map<std::string, std::vector<HeldRows>, std::less<>>;

HeldDatasets held_datasets(const std::vector<PartFile>& files) {
  HeldDatasets datasets;
  for (const auto& part : files)
    for (const auto& piece : part.pieces)
      if (piece.current) datasets[piece.dataset].push_back({&part, &piece});
  return datasets;
}

std::string dataset_problem(const std::string& name, std::vector<HeldRows>& held) {
  std::ranges::sort(held, {}, [](const auto& rows) { return rows.piece->first_row; });
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < held.size(); ++i) {
    if (held[i].piece->type != held[0].piece->type)
      return fmt::format("dataset '{}' has two element types: in {} and {}", name,
                         held[0].part->file, held[i].part->file);
    if (held[i].piece->rows != 0 && held[i].piece->first_row < end)
      return fmt::format("row {} of dataset '{}' is in {} and before it in another piece",
                         held[i].piece->first_row, name, held[i].part->file);
    end = std::max(end, held[i].piece->end_row());
  }
  return {};
}

// Of the pieces of one dataset.
std::string field_problem(const std::string& name, const std::vector<HeldRows>& held) {
  std::vector<checkpoint_fields::Box> boxes;
  std::vector<const HeldRows*> holders;
  const auto field_of = [](const HeldRows& rows) {
    return rows.piece->block ? &rows.piece->block->field : nullptr;
  };
  const GridField* const field = field_of(held[0]);
  for (const HeldRows& rows : held) {
    const GridField* const other = field_of(rows);
    if ((field == nullptr) != (other == nullptr) || (field != nullptr && *field != *other))
      return fmt::format("dataset '{}' is of two fields: in {} and {}", name, held[0].part->file,
                         rows.part->file);
    if (field == nullptr || rows.piece->rows == 0) continue;
    boxes.push_back(checkpoint_fields::box_of(*rows.piece->block));
    holders.push_back(&rows);
  }
  if (boxes.size() > Limits::field_blocks_max)
    return fmt::format("dataset '{}' has more than {} blocks", name, Limits::field_blocks_max);
  if (const auto pair = checkpoint_fields::overlapping(boxes))
    return fmt::format(
        "two pieces of dataset '{}' have the same elements of their field: in {} and {}", name,
        holders[pair->first]->part->file, holders[pair->second]->part->file);
  return {};
}

std::string field_names_problem(const CheckpointManifest& manifest) {
  std::map<std::string_view, std::string_view> datasets;
  for (const auto& [dataset, field] : fields_of(manifest)) {
    const auto [there, added] = datasets.emplace(field->name, dataset);
    if (!added)
      return fmt::format("datasets '{}' and '{}' have fields of one name", there->second, dataset);
  }
  return {};
}

// A name that is also a group of another cannot be shown in one HDF5 file.
std::string group_problem(const HeldDatasets& datasets) {
  for (const auto& [name, held] : datasets)
    for (auto at = name.find('/'); at != name.npos; at = name.find('/', at + 1))
      if (datasets.contains(std::string_view(name).substr(0, at)))
        return fmt::format("dataset '{}' lies in a dataset", name);
  return {};
}

}  // namespace

std::map<std::string, const GridField*> fields_of(const CheckpointManifest& manifest) {
  std::map<std::string, const GridField*> fields;
  for (const auto& part : manifest.files)
    for (const auto& piece : part.pieces)
      if (piece.current && piece.block) fields.emplace(piece.dataset, &piece.block->field);
  return fields;
}

bool is_run_name(std::string_view run) {
  return !run.empty() && run.size() <= Limits::run_bytes_max &&
         std::ranges::all_of(run, [](char c) { return c > ' ' && c <= '~'; });
}

bool is_dataset_name(std::string_view name) {
  if (name.size() > Limits::name_bytes_max) return false;
  for (std::size_t parts = 1; parts <= kNamePartsMax; ++parts) {
    const auto end = name.find('/');
    if (!is_simple_name(name.substr(0, end))) return false;
    if (end == name.npos) return true;
    name.remove_prefix(end + 1);
  }
  return false;
}

bool is_field_name(std::string_view name) {
  return is_simple_name(name);
}

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string problem_with(const CheckpointManifest& manifest) {
  if (!is_run_name(manifest.run)) return "its run has no valid name";
  if (manifest.checkpoint.value == 0) return "checkpoints are numbered from 1";
  if (manifest.files.empty()) return "it has no part";
  if (!std::isfinite(manifest.facts.cost_seconds)) return "its cost is no number";
  for (const auto& part : manifest.files)
    if (auto problem = file_problem(part, manifest.checkpoint); !problem.empty()) return problem;
  for (std::size_t i = 1; i < manifest.files.size(); ++i)
    if (manifest.files[i].file <= manifest.files[i - 1].file)
      return "its files are not in the order of their names";
  auto datasets = held_datasets(manifest.files);
  for (auto& [name, held] : datasets)
    if (auto problem = dataset_problem(name, held); !problem.empty()) return problem;
  for (const auto& [name, held] : datasets)
    if (auto problem = field_problem(name, held); !problem.empty()) return problem;
  if (auto problem = field_names_problem(manifest); !problem.empty()) return problem;
  return group_problem(datasets);
}

// Each member on a line of its own, and each part file too.
std::string to_text(const CheckpointManifest& manifest) {
  const CheckpointFacts& facts = manifest.facts;
  ordered_json object;
  object["format"] = kFormat;
  object["format_version"] = kFormatVersion;
  object["run"] = manifest.run;
  object["checkpoint"] = manifest.checkpoint.value;
  object["epoch"] = manifest.epoch.value;
  object["job"] = text_to_json(facts.job);
  object["parameters"] = texts_to_json(facts.parameters);
  object["seed"] = facts.seed;
  object["software"] = texts_to_json(facts.software);
  object["ranks"] = facts.ranks;
  object["lamport"] = facts.lamport;
  object["utc"] = text_to_json(facts.utc);
  object["cost_seconds"] = facts.cost_seconds;
  object["view"] = to_json(manifest.view, checkpoint_files::kView);
  if (manifest.xdmf) object["xdmf"] = to_json(*manifest.xdmf, checkpoint_files::kXdmf);
  std::string text = "{\n";
  for (const auto& [name, value] : object.items())
    text += fmt::format("{}: {},\n", json(name).dump(), value.dump());
  text += "\"files\": [";
  for (std::size_t i = 0; i < manifest.files.size(); ++i)
    text += (i == 0 ? "\n" : ",\n") + to_json(manifest.files[i]).dump();
  text += "]";
  text += kBeforeHash;
  return text + content_hash(text) + std::string(kAfterHash);
}

std::expected<CheckpointManifest, std::string> parse_manifest(std::string_view text) {
  const auto object = open_text(text);
  if (!object) return std::unexpected(object.error());
  Reading reading;
  const std::string format = reading.plain_text(*object, "format");
  const std::uint64_t version = reading.count(*object, "format_version", UINT64_MAX);
  if (reading.failed() || format != kFormat)
    return std::unexpected("it is no manifest of a checkpoint of Regroup");
  if (version != kFormatVersion)
    return std::unexpected(fmt::format(
        "it has format version {}, this Regroup reads {}; use the Regroup that wrote it", version,
        kFormatVersion));
  auto manifest = read_manifest(*object, reading);
  if (reading.failed()) return std::unexpected("it is no valid manifest: " + reading.problem());
  if (const auto problem = problem_with(manifest); !problem.empty())
    return std::unexpected("it is no valid manifest: " + problem);
  if (manifest.xdmf.has_value() != has_grids(manifest))
    return std::unexpected("it is no valid manifest: its fields are not those that it describes");
  return manifest;
}

std::string to_text(const CheckpointPart& part) {
  ordered_json object;
  object["rank"] = part.rank.value;
  auto files = ordered_json::array();
  for (const auto& file : part.files) files.push_back(to_json(file));
  object["files"] = std::move(files);
  return object.dump();
}

std::expected<CheckpointPart, std::string> parse_part(std::string_view text) {
  if (text.size() > Limits::manifest_bytes_max || nests_too_deep(text))
    return std::unexpected("a rank's part of a checkpoint is too large or nests too deep");
  const json object = json::parse(text, nullptr, false);
  Reading reading;
  CheckpointPart part;
  part.rank.value = static_cast<std::uint32_t>(reading.count(object, "rank", UINT32_MAX));
  part.files = read_files(object, reading);
  if (reading.failed())
    return std::unexpected("a rank's part of a checkpoint is invalid: " + reading.problem());
  return part;
}

}  // namespace regroup
