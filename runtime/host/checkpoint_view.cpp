#include "runtime/host/checkpoint_view.hpp"

#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/field_attributes.hpp"
#include "runtime/host/hdf5_wrapper.hpp"

namespace regroup {
namespace {

using namespace checkpoint_files;

struct ViewedDataset {
  hdf5::ElementType type = hdf5::ElementType::kUint8;
  const GridField* field = nullptr;
  hdf5::VirtualLayout layout{{0}};
  std::vector<hdf5::VirtualPiece> pieces;
};

void add(const StoredPiece& piece, const PartFile& part, ViewedDataset& dataset) {
  dataset.type = piece.type;
  const std::string path = "/" + piece.path;
  if (piece.block) {
    const GridField& field = piece.block->field;
    const bool may_say_so = piece.type == hdf5::ElementType::kFloat64;
    dataset.field = &field;
    dataset.layout = {field.shape, may_say_so ? hdf5::Missing::kNotANumber : hdf5::Missing::kZero};
    if (piece.rows != 0)
      dataset.pieces.push_back({part.file, path, piece.block->start, piece.block->extent});
    return;
  }
  std::uint64_t& rows = dataset.layout.shape[0];
  rows = std::max(rows, piece.end_row());
  if (piece.rows != 0) dataset.pieces.push_back({part.file, path, {piece.first_row}, {piece.rows}});
}

std::map<std::string, ViewedDataset> viewed_datasets(const CheckpointManifest& manifest) {
  std::map<std::string, ViewedDataset> datasets;
  for (const auto& part : manifest.files) {
    for (const auto& piece : part.pieces) {
      if (piece.current) add(piece, part, datasets[piece.dataset]);
    }
  }
  for (auto& [name, dataset] : datasets)
    std::ranges::sort(dataset.pieces, {}, &hdf5::VirtualPiece::start);
  return datasets;
}

hdf5::Expected<void> create_dataset(hdf5::Group& root, std::string_view path,
                                    const ViewedDataset& dataset) {
  auto group = root.open_group(".");
  for (auto end = path.find('/'); group && end != path.npos; end = path.find('/')) {
    const std::string name(path.substr(0, end));
    path.remove_prefix(end + 1);
    const auto there = group->has(name);
    if (!there) return std::unexpected(there.error());
    group = *there ? group->open_group(name) : group->create_group(name);
  }
  if (!group) return std::unexpected(group.error());
  const std::string name(path);
  if (dataset.pieces.empty() && dataset.field == nullptr) {
    auto empty = group->create_dataset(name, dataset.type, {});
    if (!empty) return std::unexpected(empty.error());
    return empty->close();
  }
  auto made = group->create_virtual_dataset(name, dataset.type, dataset.layout, dataset.pieces);
  if (!made) return std::unexpected(made.error());
  hdf5::Expected<void> done;
  if (dataset.field != nullptr) done = put_field(*made, *dataset.field);
  if (done) done = made->close();
  return done;
}

hdf5::Expected<void> write(FileSystem& file_system, const std::filesystem::path& path,
                           const CheckpointManifest& manifest) {
  auto file = hdf5::File::create(path, file_system, {.format = hdf5::Format::k110});
  if (!file) return std::unexpected(file.error());
  auto root = file->root();
  if (!root) return std::unexpected(root.error());
  auto done = root->put_attribute("format", std::string("regroup-checkpoint-view"));
  if (done) done = root->put_attribute("format_version", std::int64_t{1});
  if (done) done = root->put_attribute("run", manifest.run);
  if (done) done = root->put_attribute("checkpoint", manifest.checkpoint.value);
  for (const auto& [name, dataset] : viewed_datasets(manifest))
    if (done) done = create_dataset(*root, name, dataset);
  if (done) done = file->flush();
  if (done) done = root->close();
  if (done) done = file->close();
  return done;
}

std::expected<ViewFile, std::string> hash_view(FileSystem& file_system,
                                               const std::filesystem::path& path) {
  const auto file = open_regular(file_system, path);
  if (!file) return std::unexpected(file.error().reason);
  const hdf5::Extent whole{0, file->bytes};
  auto hash = hash_of(file_system, file->descriptor.get(), {&whole, 1});
  if (!hash) return std::unexpected(fmt::format("cannot read {}: {}", path.string(), hash.error()));
  return ViewFile{file->bytes, std::move(*hash)};
}

}  // namespace

std::expected<ViewFile, std::string> write_view(FileSystem& file_system,
                                                const std::filesystem::path& directory,
                                                const CheckpointManifest& manifest) {
  const auto path = directory / kView;
  const std::filesystem::path temporary = path.string() + std::string(kTemporarySuffix);
  if (const auto done = write(file_system, temporary, manifest); !done) {
    file_system.unlink(temporary.c_str());
    return std::unexpected(fmt::format("cannot write {}: {}", temporary.string(), done.error()));
  }
  auto view = hash_view(file_system, temporary);
  if (view)
    if (const auto done = publish(file_system, temporary, path); !done)
      view = std::unexpected(done.error());
  if (!view) file_system.unlink(temporary.c_str());
  return view;
}

}  // namespace regroup
