import torch


def test_voxels_without_ground_truth_are_not_scored_in_class_maps(workflow):
    made = workflow("train.json", instances="false", out_channels=3, ignore_label=3)  # the third box
    item = made.val_dataset[0]
    everywhere = torch.zeros(3, *item["image"].shape[1:])
    everywhere[1] = 5.0  # class 1, also where nobody has looked
    scored = made.val_postprocessing({**item, "pred": everywhere})["pred"]
    ignored = torch.as_tensor(item["weight"]) == 0
    assert int(ignored.sum()) == 144  # the pixels of the third box
    assert (scored[ignored] == 0).all()
    assert (scored[~ignored] == 1).all()
    assert (item["label"][ignored] == 0).all()


def test_without_an_ignored_value_every_voxel_is_scored(workflow):
    made = workflow("train.json", instances="false", out_channels=4, class_weights=[0.0, 1.0, 1.0, 1.0])
    item = made.val_dataset[0]
    everywhere = torch.zeros(4, *item["image"].shape[1:])
    everywhere[1] = 5.0
    assert (made.val_postprocessing({**item, "pred": everywhere})["pred"] == 1).all()
